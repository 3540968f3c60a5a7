"""The mathematics and the rules of purposematch, without I/O, clock, wire, database or logging."""
