"""Photographs for demonstrations; origin and licence of each in photos/ORIGINS.md."""
