//! The store's contracts on a CQL server.

use super::Store;

hansard_contract::store_contract!(Store::new);
