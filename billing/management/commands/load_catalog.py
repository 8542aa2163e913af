"""`manage.py load_catalog [FILE] [--prune]`: make the database know the listing's products and dimensions."""

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
        parser.add_argument(
            "--prune", action="store_true", help="Remove what the file does not list, if nobody ever had it."
        )

    def handle(self, *args: Any, file: Path, prune: bool, **options: Any) -> None:
        try:
            listed = json.loads(file.read_text(encoding="utf-8"))
            products = catalog.load(listed)
        except (OSError, ValueError, RecursionError, catalog.CatalogError) as error:
            raise CommandError(f"{file}: {error}") from error
        for product in products:
            self.stdout.write(f"{product.code}: {product.dimensions.count()} dimensions")
        for removed in catalog.prune(listed) if prune else []:
            self.stdout.write(f"removed {removed}")
