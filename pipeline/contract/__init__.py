"""What each kind of component does and is given; all of it is imported from `pipeline.components`."""
