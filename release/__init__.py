"""What makes a release: locks with hashes, licences, bills of materials, the archive for sites without internet."""
