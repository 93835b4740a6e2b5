"""The signed file: strict CBOR, COSE envelope, model, sign, verify (pure)."""
