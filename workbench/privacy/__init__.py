"""Personal data in texts: found, masked, and restored by whoever has the key. Knows no records and no models."""
