"""How many atoms are in every column of an image of ceria, cations and anions, with intervals."""
