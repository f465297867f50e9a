"""What finished runs say: studies, statistics, ablations, baselines."""
