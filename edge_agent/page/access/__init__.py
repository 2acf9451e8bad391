"""Who may do what on the page, and what every request has to keep to."""
