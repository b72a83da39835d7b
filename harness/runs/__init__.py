"""What a run and a study leave on disk: paths, atomic writes, metrics, results, locks. metrics.jsonl and result.json are the truth."""
