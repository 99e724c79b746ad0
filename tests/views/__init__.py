"""What people see: text in, text out."""
