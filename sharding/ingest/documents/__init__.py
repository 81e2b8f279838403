"""Documents of prose: each format becomes blocks under headings, and these become passages."""
