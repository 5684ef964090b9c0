"""The papers' tables: rows, runs, report and plot."""
