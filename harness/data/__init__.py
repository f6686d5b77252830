"""The files behind problems: where they come from, how they are found and read, what is made of them and kept."""
