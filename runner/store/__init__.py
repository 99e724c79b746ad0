"""The truth: everything a run knows is here, on SQLite or PostgreSQL. The only floor that speaks SQL."""
