"""What a hospital's PACS and we must agree on: sites, rules, references, and the DICOMweb client. No torch."""

from reacquire.pacs.config import PacsConfig, Rule, Site, load_pacs_config

__all__ = ["PacsConfig", "Rule", "Site", "load_pacs_config"]
