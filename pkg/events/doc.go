// Package events is the catalogue of the fleet's facts: which subject carries
// which message, in which stream, published and consumed by whom. It publishes
// and decodes the messages of seaworthy.event.v1 over pkg/eventbus. It is the
// only package of pkg that names generated messages.
package events
