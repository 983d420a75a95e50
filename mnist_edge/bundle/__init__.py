"""A bundle: the folder that the stages hand to each other. Its files, its records, how they are read and written."""
