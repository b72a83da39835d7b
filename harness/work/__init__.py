"""What a command and a call from Python do alike: where training, search, tracking and the files of a run are put together."""
