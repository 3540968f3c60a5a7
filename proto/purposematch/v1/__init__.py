"""The wire: version 1 of the IDL, and its generated bindings."""
