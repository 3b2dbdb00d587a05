"""What a network is, as shapes and indices, padded to the group's."""
