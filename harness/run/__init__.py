"""Many runs: suites, the plan of what is to be made, worker processes, seeds in one pass, tuning."""
