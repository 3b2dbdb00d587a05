"""Forward and backward passes of padded networks."""
