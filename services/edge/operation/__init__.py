"""What operators and people need besides the API: health, documentation, the web page."""
