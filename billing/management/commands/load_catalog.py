"""`manage.py load_catalog [FILE]`: make the database know the listing's products and dimensions."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import catalog


class Command(BaseCommand):
    help = "Create or update products and dimensions from the catalog file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", default=settings.MARKETPLACE_CATALOG, type=Path)

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            products = catalog.load(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError, catalog.CatalogError) as error:
            raise CommandError(f"{file}: {error}") from error
        for product in products:
            self.stdout.write(f"{product.code}: {product.dimensions.count()} dimensions")
