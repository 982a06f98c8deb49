"""CloudFront standard logs, legacy and version 2: what edges sent to viewers."""
