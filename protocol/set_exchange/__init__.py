"""The commutative set exchange: who matches, or how many, without the advertiser learning which.

::

    advertiser, secret a                                   platform, secret b of the epoch
    A = a*G, a*H(y) in an order of its own   ------->      b*(a*H(y)), kept for itself
                                             <-------      the points b*H(x), segments of the generation
    a*(b*H(x))                               ------->      meets where both products are equal

`points` makes the points, `advertiser` and `platform` are the two halves, `meeting` compares. For disclosure
`platform` the points come back in their order with a proof that one `a` made all of them; for `count` they
come back in no order, and secret multiples of G planted among them tell whether they were left alone.

Source: the shape is that of commutative encryption (Huberman, Franklin and Hogg 1999, "Enhancing Privacy and
Trust in Electronic Communities"), as in IAB Tech Lab's PAIR without a third party. docs/protocol.md has it
byte for byte.
"""
