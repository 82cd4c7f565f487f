package main

import (
	"bytes"
	"fmt"
)

// Sizes of a plot, in pixels.
const (
	width, height = 480, 300
	left, bottom  = 60, 40
	top, right    = 30, 20
)

// draw is the plot of the points and the line through them, both axes from zero.
func draw(name string, points []point, l line) []byte {
	last := points[len(points)-1]
	mostY := last.y
	for _, p := range points {
		mostY = max(mostY, p.y)
	}
	mostY *= 1.1
	x := func(v float64) float64 { return left + v/last.x*(width-left-right) }
	y := func(v float64) float64 { return height - bottom - v/mostY*(height-top-bottom) }
	var b bytes.Buffer
	_, _ = fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	_, _ = fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	_, _ = fmt.Fprintf(&b, `<text x="%d" y="18">CPU ms of a scan by %s (R² %.3f)</text>`+"\n", left, name, l.r2)
	_, _ = fmt.Fprintf(&b, `<path d="M%d %d V%d H%d" fill="none" stroke="black"/>`+"\n", left, top, height-bottom, width-right)
	for i := range 5 {
		share := float64(i) / 4
		_, _ = fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(share*last.x), height-bottom+18, share*last.x)
		_, _ = fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%.0f</text>`+"\n", left-6, y(share*mostY)+4, share*mostY)
	}
	_, _ = fmt.Fprintf(&b, `<path d="M%.1f %.1f L%.1f %.1f" stroke="steelblue"/>`+"\n", x(0), y(l.intercept), x(last.x), y(l.intercept+l.slope*last.x))
	for _, p := range points {
		_, _ = fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4" fill="firebrick"/>`+"\n", x(p.x), y(p.y))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
