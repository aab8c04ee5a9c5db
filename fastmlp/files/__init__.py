"""Models in files: written and read without a compiler. docs/files.md says what a file holds."""
