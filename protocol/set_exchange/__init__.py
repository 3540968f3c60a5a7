"""The commutative set exchange: who matches, or how many, without the advertiser learning which.

::

    advertiser, secret a                                   platform, secrets of the epoch
    A = a*G, a*H(y) in an order of its own   ------->
                                             <-------      the points of a list, segments of the generation
    a times every point                      ------->      meets where both lists come to the same

    `count`:    a point is b*H(x), and compared are b*(a*H(y)) and a*(b*H(x))
    `platform`: a point is H(x) + r*G, and compared are a*H(y) and a*(H(x) + r*G) - r*A

`points` makes the points, `advertiser` and `platform` are the two halves, `meeting` compares. For disclosure
`platform` the points come back in their order with a proof that one `a` made all of them (`weights`), and
the platform takes the mask off each; for `count` they come back in no order, and secret multiples of G
planted among them tell whether they were left alone.

Source: the shape is that of commutative encryption (Huberman, Franklin and Hogg 1999, "Enhancing Privacy and
Trust in Electronic Communities"), as in IAB Tech Lab's PAIR without a third party; with masks, the platform
is the client of an oblivious PRF whose key is a (Jarecki, Krawczyk and Xu 2021, see `additive_blinding`).
docs/protocol.md has it byte for byte.
"""
