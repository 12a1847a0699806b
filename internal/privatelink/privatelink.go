// Package privatelink knows what AWS says of the way in: the load balancer's
// addresses, the endpoints of the endpoint service, and the instance itself.
package privatelink
