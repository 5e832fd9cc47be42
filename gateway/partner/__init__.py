"""The edge towards partners: bytes in, commands out; values in, FHIR out."""
