"""From atoms to counts: what the microscope and the detector make of a specimen."""
