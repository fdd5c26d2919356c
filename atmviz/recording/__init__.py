"""Recordings of what every ATM layer fetched: made with torch (`run`), read without it (`store`)."""
