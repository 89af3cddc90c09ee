"""What notebooks 3 to 5 add: kept trainings, ideas, experiments, calibration, shifts."""
