"""Tables, pictures and a page from run directories: `sim.report.build`. What only reads them needs no pictures."""
