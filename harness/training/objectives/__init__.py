"""What is learned: an objective a file, chosen in build.py."""
