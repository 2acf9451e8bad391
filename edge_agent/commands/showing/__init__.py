"""Commands that show what was inspected to people: the page in a browser, and reports."""
