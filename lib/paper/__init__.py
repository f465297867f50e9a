"""Figures, tables, report and explorer."""
