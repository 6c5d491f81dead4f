"""A small private certificate authority for trials. Production takes its files from cert-manager or any other CA; what
a certificate has to carry is the same (docs/operate/certificates.md).
"""

from typing import Final

AUTHORITY_DAYS: Final = 3650
"""Ten years, as private authorities are usually made: every peer has to be told of a new one."""

CERTIFICATE_DAYS: Final = 365
"""A year: what a person renews by hand is renewed once a year."""
