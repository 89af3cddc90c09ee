"""The machinery around the lessons: runs, reports, exercises, the command line."""
