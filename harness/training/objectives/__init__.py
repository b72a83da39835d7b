"""What is learned: a module an objective, thin over the TrainingModule that they share."""
