"""The platform's side: the gate in front, the registry, publishing, and the matching service.

Needs the extra `server`: ``pip install 'purposematch[server]'``.
"""
