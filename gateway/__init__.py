"""The processes that speak to a PACS: the courier (DICOMweb in and out) and the C-STORE SCP."""
