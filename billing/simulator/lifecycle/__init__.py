"""What becomes of a purchase: bought, changed, renewed, ended; and what AWS tells the seller of it."""
