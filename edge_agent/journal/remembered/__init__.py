"""What the journal remembers besides inspections: its epoch, and alarms that no single picture made."""
