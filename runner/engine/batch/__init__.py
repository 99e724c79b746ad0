"""Message Batches: rows packed, sent once, waited for and read to the end."""
