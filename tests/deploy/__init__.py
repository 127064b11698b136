"""What deploy/ promises, tried as far as a machine without a cluster can: built, validated, loaded, run."""
