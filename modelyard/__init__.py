"""What programs import to use a Modelyard: `modelyard.client`."""
