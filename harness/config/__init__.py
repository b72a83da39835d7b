"""Configuration of a run and of a sweep: schema, composition by Hydra, validation, and where each value came from. No torch."""
