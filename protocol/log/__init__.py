"""The log's mathematics: Merkle trees, proofs, signed checkpoints, and what a leaf commits to.

Source: RFC 6962 section 2.1, RFC 9162 section 2.1, C2SP signed-note, tlog-checkpoint and tlog-tiles;
docs/log.md has every format byte for byte. Where leaves are kept is the platform's business.
"""
