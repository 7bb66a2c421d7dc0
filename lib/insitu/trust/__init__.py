"""Part III: how far to believe a denoised image."""
