"""Studies in virtual time: the scheduler that runs real studies, over trials that are answered from a table of learning curves."""
