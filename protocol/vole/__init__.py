"""The VOLE engine: one match of two lists that meet once, ten times faster than with elliptic curves.

One side, the *receiver*, learns which of its items the other side, the *sender*, has as well; the sender
learns nothing but the receiver's declared size, and for each match what the receiver chooses to return. No
group operation is done for an item and nothing can be used again in another session.

`engine.open_engine` says whether this processor has what it takes. `parameters.parameters` gives the sizes of
all messages for two declared sizes. `engine.Engine` makes a `receiver.Receiver` or a `sender.Sender`, which
are state machines without input or output (`party`).

The protocol in full is in the docstrings, from below: `code`, `session` (keys), `base_transfers`,
`extension`, `trees`, `columns` (expansion, correction and compression), `rows` and `store` (the key-value
store), `outputs` and `records`. Frame: RR22 (ePrint 2022/320), figure 11, and RS21 (ePrint 2021/266).
Store: RB-OKVS (ePrint 2023/903). VOLE: SoftSpokenOT (ePrint 2022/192) with the code of OOS (ePrint 2016/933).

Semi-honest, experimental, no published proof: the parts are published and have proofs, their composition has
not. In particular the compression of a slot to 128 bits, and the bound of 122 bits of entropy after it, are
the authors' own argument. A peer that deviates from the protocol can cause wrong results. Both sizes are
revealed.
"""
